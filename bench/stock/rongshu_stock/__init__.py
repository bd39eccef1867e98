"""The stock Flower app that the federated bench times."""
