"""What users of NVIDIA's closed-division code type and write, and what it is here.

bootstrap.py reads TARGETS before there is a venv, so nothing is imported, and an old Python can read it.
"""

# NVIDIA's names of settings that are fields here under another name, in the same unit.
FIELDS = {
    "gpu_batch_size": "batch_size",
    "dla_batch_size": "batch_size",
    "gpu_inference_streams": "instances",
    "deque_timeout_usec": "queue_delay_us",
    "system_name": "system",
}
