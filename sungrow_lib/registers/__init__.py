"""Every register Sungrow documents, and what is known beyond the documents: words to values and back."""
