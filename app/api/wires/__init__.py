"""What clients speak, a module each: OpenAI's chat, completions and responses, Anthropic's messages. No I/O."""
