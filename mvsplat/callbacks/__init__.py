"""What happens around the loop: pictures in the logs, test results, predictions."""
