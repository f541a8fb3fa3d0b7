"""The output layer in pieces; knows no loss term."""
