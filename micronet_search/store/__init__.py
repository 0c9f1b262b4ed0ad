"""Every path, atomic writes, checkpoints and the lock of a study."""
