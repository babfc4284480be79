"""Sound: files in and out, features, speech recognition, speech synthesis."""
