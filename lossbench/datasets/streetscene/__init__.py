"""The generator behind the dataset `streets`: street scenes with a dial for class imbalance, in plain numpy."""
