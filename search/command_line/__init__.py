"""What typing a command takes: options made from dataclasses, and the signals that end it."""
