"""What it cost: prices and bills (pure), the ledger, the metrics, and the one call that feeds them all."""
