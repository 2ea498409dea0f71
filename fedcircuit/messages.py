"""Names of the records that clients and strategies of fedcircuit exchange beside the weights.

Extra ConfigRecords in replies are allowed by every Flower strategy and disturb none of them.
"""

IDENTITY_QUERY = "query.fedcircuit"  # message type: which partition do you hold?
SIDE_CHANNEL = "fedcircuit"  # name of the ConfigRecord in a reply
PARTITION_ID = "partition-id"  # int: which partition the client holds
CODE_VERSION = "version"  # str: version of fedcircuit that the client runs
CLASS_COUNTS = "class-counts"  # list[int]: training samples of each class
MASKS = "masks"  # bytes: packed bits [classes, units], numpy.packbits along units
MASKS_FOUND = "masks-found"  # list[bool]: per class, was a circuit found
MASKS_UNITS = "masks-units"  # int: number of units before packing
VALIDITY = "validity"  # str: JSON of the client's own checks, one object a class
CLIENT_CIRCUIT_KEYS = (MASKS, MASKS_FOUND, MASKS_UNITS, VALIDITY)
