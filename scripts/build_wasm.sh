#!/bin/sh
# Compiles export/targets/web/search.wasm. It needs zig's compiler: pip install ziglang==0.17.1
set -eu
cd "$(dirname "$0")/../export/targets/web"
"${PYTHON:-python3}" -m ziglang c++ -target wasm32-wasi -mexec-model=reactor -std=c++17 -O3 -msimd128 -ffp-contract=off \
    -fexceptions -fignore-exceptions -DNDEBUG -Wall -Wextra -Wl,-z,stack-size=262144 -s \
    -o search.wasm search.cpp
chmod 644 search.wasm
