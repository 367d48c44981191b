"""Users and their permissions. `user.py` says what a user may do, and `rules.py` has the language of ACL SETUSER."""
