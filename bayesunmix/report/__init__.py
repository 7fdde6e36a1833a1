"""A result on paper: the output folder (files), its tables, the report (page, words), and what a paper prints."""
