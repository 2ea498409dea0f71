"""The devices: sparse networks on their own data, and the circuits in them."""

from deployed_app.task import CIRCUITS, N_CLASSES, TRAINING, model, test_samples, training_samples
from fedcircuit.clients import ClientCircuits, client_app

app = client_app(
    model,
    training_samples,
    TRAINING,
    n_classes=N_CLASSES,
    seed=0,
    circuits=ClientCircuits(CIRCUITS),
    test=test_samples,
)
