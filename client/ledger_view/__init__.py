"""The ledger for people: figures per patient, a drawing, a forecast, and a signed export."""
