"""Keeps the library's own tests out of this repository's suite; stays behind when `test_hostsite` copies the site."""

collect_ignore_glob = ["*"]
