"""One evaluation document out of predictions per patient, and its page, tables and model card."""
