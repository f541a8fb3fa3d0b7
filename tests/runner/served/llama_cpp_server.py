"""Run in an environment with xllamacpp: serve a model at a port until killed.

python llama_cpp_server.py FILE.gguf PORT
"""

# The library is in an environment of its own, which the linters do not see.
# pyright: reportMissingImports=false

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.n_gpu_layers = 512, 2, 0
params.cpuparams.n_threads = 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.warmup, params.verbosity = False, -1
server = xllamacpp.Server(params)
signal.pause()
