"""`python -m sagan_tf`: the same as `sagan`."""

from sagan_tf.cli import main

main()
