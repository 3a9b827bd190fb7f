"""The typed config of a run, read from YAML files and command-line flags and checked before any work."""

from sagan_tf.config.differences import config_differences as config_differences
from sagan_tf.config.fields import AttentionConfig as AttentionConfig
from sagan_tf.config.fields import Config as Config
from sagan_tf.config.fields import DataConfig as DataConfig
from sagan_tf.config.fields import DiscriminatorConfig as DiscriminatorConfig
from sagan_tf.config.fields import GeneratorConfig as GeneratorConfig
from sagan_tf.config.fields import GuardConfig as GuardConfig
from sagan_tf.config.fields import HardwareConfig as HardwareConfig
from sagan_tf.config.fields import OptimizerConfig as OptimizerConfig
from sagan_tf.config.fields import OutputConfig as OutputConfig
from sagan_tf.config.fields import TrainingConfig as TrainingConfig
from sagan_tf.config.loading import QUICK_START as QUICK_START
from sagan_tf.config.loading import load_command_line as load_command_line
from sagan_tf.config.loading import load_config as load_config
from sagan_tf.config.loading import read_config as read_config
from sagan_tf.config.ranges import ConfigError as ConfigError
from sagan_tf.config.saving import save_config as save_config
