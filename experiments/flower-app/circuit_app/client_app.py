"""The clients: sparse networks on their own digits."""

from circuit_app.task import N_CLASSES, TRAINING, client_samples, model
from fedcircuit import client_app

app = client_app(model, client_samples, TRAINING, n_classes=N_CLASSES, seed=0)
