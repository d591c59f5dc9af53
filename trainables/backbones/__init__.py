"""Pretrained networks without their last layer: names, weights, preprocessing, several joined."""
