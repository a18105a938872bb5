"""The decision, pure: filters -> scorers -> picker over an immutable snapshot and one state value."""
