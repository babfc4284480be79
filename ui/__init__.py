"""The page in a browser; it talks to the server through its public interface only."""
