"""What starts and runs everything: the embedded Kafka and Postgres, the processes, the `runfold` command line."""
