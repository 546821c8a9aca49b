"""Networks this small are faster on one thread, and share the processor politely with other tests."""

import torch

torch.set_num_threads(1)
