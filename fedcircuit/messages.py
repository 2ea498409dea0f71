"""Names of the records that clients and strategies of fedcircuit exchange beside the weights.

Extra ConfigRecords in replies are allowed by every Flower strategy and disturb none of them.
"""

IDENTITY_QUERY = "query.fedcircuit"  # message type: which partition do you hold?
SIDE_CHANNEL = "fedcircuit"  # name of the ConfigRecord in a reply
PARTITION_ID = "partition-id"  # int: which partition the client holds
CODE_VERSION = "version"  # str: version of fedcircuit that the client runs
CLASS_COUNTS = "class-counts"  # list[int]: training samples of each class
# list[float], or from a NumPyClient the bytes of little-endian float64: per class the variance of
# the client's features, a mean over them; NaN where unknown
CLASS_VARIANCES = "class-variances"
PATH_LAYERS = "path-layers"  # list[str]: weights whose path importance follows, as they are sent
PATH_IMPORTANCE = "path-importance"  # list[float]: per layer sum |<gradient, step>|, all rounds
MASKS = "masks"  # bytes: packed bits [classes, units], numpy.packbits along units
MASKS_FOUND = "masks-found"  # list[bool], or as many bytes: per class, was one found
MASKS_UNITS = "masks-units"  # int: number of units before packing
VALIDITY = "validity"  # str: JSON of the client's own checks, one object a class
CLIENT_CIRCUIT_KEYS = (MASKS, MASKS_FOUND, MASKS_UNITS, VALIDITY)

# What a masked download (LIPS) says in the train config, and its clients in the side channel.
LIPS_DENSITY = "lips-density"  # float: share of the entries that this round's start keeps
LIPS_SCORE = "lips-score"  # str: clients mask by this score; absent: the server has masked
LIPS_SCOPE = "lips-scope"  # str: per_layer or global
LIPS_LAYERS = "lips-layers"  # list[str]: tensors that clients mask
LIPS_LOCAL = "lips-local"  # list[str]: tensors that every client keeps for itself
LIPS_SEED = "lips-seed"  # int: for random masks made by clients
LIPS_KEPT = "lips-kept"  # bytes, in a reply: packed bits of the entries the client kept
PERSONAL_EVAL = "personal-eval"  # bool: clients measure the model they trained on their own tests
HELD_OUT = "held-out"  # bool, in an evaluate config: measure on no training samples, or refuse

# What aggregation rules read in the side channel, and what they tell clients in the train config.
LOCAL_STEPS = "local-steps"  # int: optimiser steps behind the update (FedNova)
FISHER = "fisher"  # bytes: diagonal Fisher, float32, entry by entry of the trained tensors in order
MOMENTS_COUNT = "moments-count"  # list[int]: samples of each class behind the moments
MOMENTS_SUM = "moments-sum"  # bytes: float64 [classes, D], sums of the head's inputs by class
MOMENTS_OUTER = "moments-outer"  # bytes: float64 [classes, D, D], sums of their outer products
FEDDYN_ALPHA = "feddyn-alpha"  # float: the alpha of the client's dynamic penalty
SCAFFOLD_DELTA = "scaffold-delta"  # bytes, as FISHER: change of the client's control variate
SCAFFOLD_CONTROL = "scaffold-control"  # bytes, as FISHER, to clients: the server's control variate
RULE_KEYS = (
    LOCAL_STEPS, FISHER, MOMENTS_COUNT, MOMENTS_SUM, MOMENTS_OUTER, FEDDYN_ALPHA, SCAFFOLD_DELTA,
)  # fmt: skip

# What a NumPyClient of ours says among its metrics: the legacy API has no records beside them.
SIDE_KEYS = frozenset(
    {PARTITION_ID, CODE_VERSION, CLASS_COUNTS, CLASS_VARIANCES, *CLIENT_CIRCUIT_KEYS, LIPS_KEPT}
    | {*RULE_KEYS}
)
