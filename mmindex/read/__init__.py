"""Frame N: open instances and archives, their bytes and their pixels."""
