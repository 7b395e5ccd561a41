"""`vidtrack probe`: backbones judged on a user's data, as a table, files and a page."""
