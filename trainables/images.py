"""Task `images` where images are large: a new head on a frozen ImageNet network, for any classes.

It is `dog_breed` from other numbers: a plain linear head, which on the same features beats the
notes' two layers on the dogs. Where images are small, `cifar10` trains its ResNet-18 on them.
"""

from trainables.config import DogBreedConfig
from trainables.dog_breed import FEATURE_KNOBS as FEATURE_KNOBS
from trainables.dog_breed import STUDY_SETTINGS as STUDY_SETTINGS
from trainables.dog_breed import check_backbones as check_backbones
from trainables.dog_breed import feature_notes as feature_notes
from trainables.dog_breed import feature_work as feature_work
from trainables.dog_breed import images_data as images_data
from trainables.dog_breed import load_data as load_data
from trainables.dog_breed import merge as merge
from trainables.dog_breed import merge_key as merge_key
from trainables.dog_breed import plain_network as plain_network
from trainables.dog_breed import preprocessings as preprocessings
from trainables.dog_breed import saved_metadata as saved_metadata
from trainables.dog_breed import start as start
from trainables.dog_breed import trainable as trainable

CONFIG = DogBreedConfig(hidden=0, lr=0.1, schedule="cosine", num_epochs=10)
