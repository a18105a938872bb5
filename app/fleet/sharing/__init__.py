"""What several gateway processes tell one another, and how the others' word is taken."""
