"""Where the figures of docs/quality.md come from: real heads, the product's steps, and harm."""
