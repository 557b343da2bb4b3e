"""The Flower ClientApp that carries sealed messages to the site agent."""
