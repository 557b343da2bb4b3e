"""The way from the hospital to its coordinator, step by step: what fails is named by its step."""
