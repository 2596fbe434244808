// The list of native engines, and the library that those for GPUs lie in.
#include "engines.h"

#include <dlfcn.h>

#include <filesystem>

#include "../failure.h"
#include "gpu_library.h"

namespace engineroom {

std::map<std::string, std::string> native_engines() {
  std::map<std::string, std::string> reasons;
  for (const NativeEngine& engine : kNativeEngines) reasons[engine.name] = engine.make ? "" : engine.left_out;
  return reasons;
}

std::unique_ptr<Engine> make_native_engine(EngineSpec spec) {
  for (const NativeEngine& engine : kNativeEngines) {
    if (engine.name != spec.name) continue;
    if (!engine.make) {
      throw Error("engine load", "engine " + spec.name + " was left out of this build: " + engine.left_out,
                  "install what is missing and run `make build_harness`");
    }
    return engine.make(std::move(spec));
  }
  std::string names;
  for (const NativeEngine& engine : kNativeEngines) names += (names.empty() ? "" : ", ") + std::string(engine.name);
  throw Error("engine load", "no native engine " + spec.name, "known: " + names);
}

std::unique_ptr<Engine> make_gpu_engine(EngineSpec spec) {
  Dl_info here{};
  ::dladdr(reinterpret_cast<const void*>(&make_gpu_engine), &here);
  const auto path = std::filesystem::absolute(here.dli_fname).parent_path() / kGpuLibrary;
  // Never closed: what it has made lives until the process ends.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* make = library == nullptr ? nullptr : ::dlsym(library, kMakeGpuEngine);
  if (make == nullptr) {
    throw Error("engine load", "cannot load the engines for GPUs: " + std::string(::dlerror()),
                "make build_harness RUN_ARGS=--force");
  }
  return std::unique_ptr<Engine>(reinterpret_cast<MakeGpuEngine*>(make)(spec));
}

}  // namespace engineroom
