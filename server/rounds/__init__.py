"""The round driver: instructions out, checked replies in, one exact step a round."""
