"""What a person talks to: sessions, branches and their messages."""
