// Names, texts and remedies of CUDA's errors (CUDA Runtime API, "Data types used by CUDA Runtime", enum cudaError).
#include "cuda_error.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "../failure.h"

namespace engineroom {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The versions are asked for here, where something is wrong already: what cannot be had is 0.0.
std::string driver_advice() {
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) return "this machine has no NVIDIA driver that works: see nvidia-smi";
  return "the NVIDIA driver is made for CUDA " + version_text(driver) + ", the harness for CUDA " +
         version_text(runtime) + ": update the driver, or build the harness with an older CUDA toolkit";
}

std::string visible_advice() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) return "see nvidia-smi: are there GPUs, and may this user open /dev/nvidia*?";
  return "CUDA_VISIBLE_DEVICES='" + std::string(visible) +
         "' names no GPU or MIG slice of this machine; see nvidia-smi -L";
}

std::string advice(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver:
    case cudaErrorCompatNotSupportedOnDevice:
      return driver_advice();
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return visible_advice();
    case cudaErrorSystemDriverMismatch:
      return "the driver's library and kernel module differ in version: restart the machine";
    case cudaErrorSystemNotReady:
      return "is nvidia-fabricmanager running? see: systemctl status nvidia-fabricmanager";
    case cudaErrorMemoryAllocation:
      return "use a smaller --batch_size, fewer --instances or --gpu_copy_streams, or --use_graphs=false; see "
             "nvidia-smi for who else has memory";
    case cudaErrorECCUncorrectable:
      return "the GPU's memory is damaged: see nvidia-smi -q -d ECC,ROW_REMAPPER; reset the GPU (nvidia-smi -r), or "
             "replace it";
    case cudaErrorNoKernelImageForDevice:
      return "the harness was not compiled for this GPU: make build_harness RUN_ARGS=--force with a CUDA toolkit that "
             "knows it";
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureUnmatched:
      return "this model cannot run as a CUDA graph: --use_graphs=false";
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceUninitialized:
    case cudaErrorContextIsDestroyed:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown:
      return "the GPU or its MIG slice may be gone: the kernel's log names the reason as an Xid (sudo dmesg | grep "
             "Xid), nvidia-smi shows what is left";
    default:
      return "";
  }
}

}  // namespace

void throw_cuda_error(cudaError_t error, const char* expression, const char* file, int line) {
  const std::string_view path(file);
  const std::string place(path.substr(path.rfind('/') + 1));
  throw Error("GPU",
              place + ":" + std::to_string(line) + ": " + expression + ": " + cudaGetErrorName(error) + " (" +
                  std::to_string(error) + "): " + cudaGetErrorString(error),
              advice(error));
}

}  // namespace engineroom
