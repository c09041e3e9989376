#!/usr/bin/env bash
# Builds wattline-runner-cuda on a machine without GPU, driver or CUDA: NVIDIA's
# compiler and headers come as Python wheels, the linker gets stubs of the
# libraries, and the board's own libraries are taken when the runner starts.
#
#   deploy/build-cuda-runner.sh [TOOLKIT_DIR]      default: target/cuda-toolkit
#
# CUDA_COMPUTE_CAP   the board's (Orin 87, Xavier 72, H100 90); default 80,
#                    which every later GPU compiles for itself at first use
# FEATURES           "cuda,cudnn" (default), "cuda", or "both" for one after the other
# CARGO_TARGET_DIR   where the build goes; default target/cuda
#
# Takes 20 to 30 minutes on one core, so it is no part of CI. Where CUDA_HOME
# names a CUDA already installed (a Jetson's), nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

toolkit=${1:-target/cuda-toolkit}
features=${FEATURES:-cuda,cudnn}
target=${CARGO_TARGET_DIR:-target/cuda}
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
# cudarc 0.19 knows CUDA 11.4 to 13.4; newer wheels stop its build.
cuda=13.0.88

need() { command -v "$1" >/dev/null || { echo "error: $1 is missing; install it first" >&2; exit 1; }; }

# Wheels of one CUDA release, unpacked into one prefix.
fetch() {
  need python3; need unzip
  local wheels=$toolkit/wheels unpacked=$toolkit/unpacked
  mkdir -p "$wheels"
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" \
    "nvidia-cuda-nvcc==$cuda" "nvidia-nvvm==$cuda" "nvidia-cuda-crt==$cuda" \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  for wheel in "$wheels"/*.whl; do unzip -qo "$wheel" 'nvidia/*' -d "$unpacked"; done
  cp -a "$unpacked"/nvidia/cu13/. "$toolkit"/
  rm -rf "$wheels" "$unpacked"
  chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
  ln -sfn lib "$toolkit/lib64"
  local file
  for file in "$toolkit"/lib/*.so.*; do
    ln -sf "$(basename "$file")" "${file%%.so.*}.so"
  done
}

# A library of the right name that defines what cudarc calls and does nothing:
# enough for the linker, never loaded on a board that has the real one.
stub() { # name, name for the loader, module of cudarc, prefix of its functions
  [ -e "$toolkit/lib/lib$1.so" ] && return
  local stubs=$toolkit/lib/stubs
  mkdir -p "$stubs"
  grep -rhoE "pub (unsafe )?fn $4[A-Za-z0-9_]+" "$cudarc/src/$3/sys" | awk '{print $NF}' \
    | sort -u | awk '{print "void " $1 "(void) {}"}' \
    | gcc -x c -shared -fPIC -w -fno-builtin -Wl,-soname,"$2" -o "$stubs/lib$1.so" -
}

need cargo; need gcc
cargo fetch --locked
if [ -z "${CUDA_HOME:-}" ]; then
  mkdir -p "$toolkit"
  toolkit=$(cd "$toolkit" && pwd)
  cudarc=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.19.* | sort -V | tail -n 1)
  [ -x "$toolkit/bin/nvcc" ] || fetch
  stub cuda libcuda.so.1 driver cu
  stub nvrtc libnvrtc.so.13 nvrtc nvrtc
  stub curand libcurand.so.10 curand curand
  stub cublas libcublas.so.13 cublas cublas
  stub cublasLt libcublasLt.so.13 cublaslt cublas
  stub cudnn libcudnn.so.9 cudnn cudnn
  export CUDA_HOME=$toolkit NVCC=$toolkit/bin/nvcc
  export LIBRARY_PATH=$toolkit/lib:$toolkit/lib/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
fi
export PATH=$CUDA_HOME/bin:$PATH

# A folder of its own: the agent in target/release must never link CUDA.
build() {
  cargo build --release --locked --package wattline-agent --bin wattline-runner-cuda \
    --features "$1" --target-dir "$target"
  cp "$target/release/wattline-runner-cuda" "$target/wattline-runner-cuda-${1//,/-}"
}
case $features in
  both) build cuda; build cuda,cudnn ;;
  *) build "$features" ;;
esac
echo "$target/release/wattline-runner-cuda"
