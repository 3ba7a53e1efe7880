"""What is built on generators and metrics together: search, low-sample experiment, study."""
