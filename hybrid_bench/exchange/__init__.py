"""Exchange: what other programs read and write: BEIR and TREC files, mteb's repositories, translations."""
