"""See what federated averaging breaks: circuits of every class, in clients and in the average."""
