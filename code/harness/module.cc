// The Python module engineroom_native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine.h"
#include "harness.h"
#include "python_engine.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace engineroom;

namespace {

// `session` is the callable of a Python engine; without one the engine is a native one.
EngineFactory factory(const EngineSpec& spec, nb::object session) {
  if (session.is_none()) return [spec] { return make_native_engine(spec); };
  return [spec, session = std::move(session)] {
    const nb::gil_scoped_acquire gil;
    return make_python_engine(spec, session);
  };
}

void py_run_test(const HarnessConfig& config, const EngineSpec& spec, nb::object session) {
  const EngineFactory make = factory(spec, std::move(session));
  const nb::gil_scoped_release released;
  run_test(config, make);
}

ProbeResult py_probe(const HarnessConfig& config, const EngineSpec& spec, double seconds, nb::object session) {
  const EngineFactory make = factory(spec, std::move(session));
  const nb::gil_scoped_release released;
  return probe(config, make, seconds);
}

}  // namespace

NB_MODULE(engineroom_native, module) {
  module.doc() = "The native harness: LoadGen, engines, and what stands between them.";

  nb::class_<TensorSpec>(module, "TensorSpec", "One input or output for one sample: no batch axis.")
      .def(nb::init<std::string, std::string, std::vector<std::size_t>>(), "name"_a, "dtype"_a, "shape"_a)
      .def("sample_bytes", &TensorSpec::sample_bytes);

  nb::class_<SampleFile>(module, "SampleFile", "Samples of one input, one behind the other in a file.")
      .def(nb::init<std::string, std::size_t, std::size_t>(), "path"_a, "offset_bytes"_a, "sample_bytes"_a);

  nb::class_<EngineSpec>(module, "EngineSpec", "Which engine, on what tensors, how many instances.")
      .def(nb::init<>())
      .def_rw("name", &EngineSpec::name)
      .def_rw("options", &EngineSpec::options)
      .def_rw("inputs", &EngineSpec::inputs)
      .def_rw("outputs", &EngineSpec::outputs)
      .def_rw("instances", &EngineSpec::instances)
      .def_rw("batch_size", &EngineSpec::batch_size)
      .def_rw("loaded_samples", &EngineSpec::loaded_samples)
      .def_rw("answer_offset", &EngineSpec::answer_offset);

  nb::class_<HarnessConfig>(module, "HarnessConfig", "The values of a recipe; paths are absolute.")
      .def(nb::init<>())
      .def_rw("benchmark", &HarnessConfig::benchmark)
      .def_rw("scenario", &HarnessConfig::scenario)
      .def_rw("test_mode", &HarnessConfig::test_mode)
      .def_rw("user_conf", &HarnessConfig::user_conf)
      .def_rw("audit_conf", &HarnessConfig::audit_conf)
      .def_rw("run_dir", &HarnessConfig::run_dir)
      .def_rw("sut_name", &HarnessConfig::sut_name)
      .def_rw("samples", &HarnessConfig::samples)
      .def_rw("total_sample_count", &HarnessConfig::total_sample_count)
      .def_rw("performance_sample_count", &HarnessConfig::performance_sample_count)
      .def_rw("queue_delay_us", &HarnessConfig::queue_delay_us)
      .def_rw("cpu_affinity", &HarnessConfig::cpu_affinity)
      .def_rw("watchdog_s", &HarnessConfig::watchdog_s);

  nb::class_<ProbeResult>(module, "ProbeResult", "A short measurement without LoadGen.")
      .def_ro("samples_per_second", &ProbeResult::samples_per_second)
      .def_ro("latency_p50_ns", &ProbeResult::latency_p50_ns)
      .def_ro("batch_size", &ProbeResult::batch_size)
      .def_ro("seconds", &ProbeResult::seconds);

  module.def("native_engines", &native_engines,
             "Native engines by name, and why one was left out of this build ('' where it was not).");
  module.def("run_test", &py_run_test, "config"_a, "engine"_a, "session"_a.none() = nb::none(),
             "Runs one LoadGen test. Once per process. An error writes error.json and ends the process with status 3.");
  module.def("probe", &py_probe, "config"_a, "engine"_a, "seconds"_a, "session"_a.none() = nb::none(),
             "Measures the engine without LoadGen for about `seconds`. Errors as in run_test.");
}
