// openvino: runs a blob that OpenVINO has compiled and exported, one inference request per instance.
//
// Options: `blob` (path), `device` (CPU where not given); every other option is an OpenVINO property. An exported blob
// forgets its streams, precision and hint, so they are handed over again at import. It is imported as often as it takes
// for each instance to have a stream: with several streams in a model OpenVINO hands each inference to a thread of its
// own, with one the calling thread computes.
#include <algorithm>
#include <charconv>
#include <fstream>
#include <openvino/core/version.hpp>
#include <openvino/runtime/core.hpp>
#include <sstream>
#include <utility>

#include "../failure.h"
#include "engines.h"

namespace engineroom {
namespace {

std::string port_dtype(const ov::element::Type& type) {
  static const std::map<std::string, std::string> names{
      {"f32", "float32"}, {"f16", "float16"}, {"bf16", "bfloat16"}, {"f64", "float64"}, {"i8", "int8"},
      {"u8", "uint8"},    {"i16", "int16"},   {"u16", "uint16"},    {"i32", "int32"},   {"u32", "uint32"},
      {"i64", "int64"},   {"u64", "uint64"},  {"boolean", "bool"},  {"f8e4m3", "float8_e4m3fn"}};
  const auto found = names.find(type.to_string());
  return found == names.end() ? type.to_string() : found->second;
}

// A tensor of a request and the memory it points to now.
struct Binding {
  ov::Output<const ov::Node> port;
  const std::byte* memory = nullptr;
};

// Binding again costs, so it is done only for new memory.
void bind_memory(ov::InferRequest& request, Binding& binding, const std::byte* memory) {
  if (std::exchange(binding.memory, memory) == memory) return;
  const ov::Output<const ov::Node>& port = binding.port;
  // OpenVINO has no tensor of constant memory; it does not write to inputs.
  request.set_tensor(port, ov::Tensor(port.get_element_type(), port.get_shape(), const_cast<std::byte*>(memory)));
}

// OpenVINO tells the source locations that an error came through, a line each; the last other line is the reason.
std::string reason(const std::string& message) {
  std::istringstream lines(message);
  std::string found = message;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !line.starts_with("Exception from") && !line.starts_with("Check '")) found = line;
  }
  return found;
}

class OpenVinoEngine : public Engine {
 public:
  using Engine::Engine;

 protected:
  void do_load() override;
  void do_infer(std::size_t instance, const Batch& batch) override;

 private:
  struct alignas(64) Instance {
    ov::InferRequest request;
    std::vector<Binding> inputs, outputs;  // in the recipe's order
  };

  std::size_t streams_of_a_model() const;
  ov::CompiledModel import_blob();
  Instance make_instance(ov::CompiledModel& model) const;
  template <typename Find>
  ov::Output<const ov::Node> checked_port(const TensorSpec& wanted, const Find& find) const;

  ov::Core core_;
  std::vector<Instance> instances_;
};

void OpenVinoEngine::do_load() {
  const std::size_t streams = streams_of_a_model();
  for (std::size_t made = 0; made < spec().instances; made += streams) {
    ov::CompiledModel model = import_blob();
    const std::size_t instances = std::min(streams, spec().instances - made);
    for (std::size_t i = 0; i < instances; ++i) instances_.push_back(make_instance(model));
  }
}

// OpenVINO's NUM_STREAMS, which may also be a word (AUTO); one model then serves every instance.
std::size_t OpenVinoEngine::streams_of_a_model() const {
  const std::string text = text_option("NUM_STREAMS", "");
  std::size_t streams = 0;
  std::from_chars(text.data(), text.data() + text.size(), streams);
  return streams == 0 ? spec().instances : streams;
}

OpenVinoEngine::Instance OpenVinoEngine::make_instance(ov::CompiledModel& model) const {
  Instance instance{model.create_infer_request(), {}, {}};
  for (const TensorSpec& input : spec().inputs) {
    instance.inputs.push_back({checked_port(input, [&](const std::string& name) { return model.input(name); })});
  }
  for (const TensorSpec& output : spec().outputs) {
    instance.outputs.push_back({checked_port(output, [&](const std::string& name) { return model.output(name); })});
  }
  return instance;
}

ov::CompiledModel OpenVinoEngine::import_blob() {
  ov::AnyMap properties(spec().options.begin(), spec().options.end());
  properties.erase("blob");
  properties.erase("device");
  const auto blob = spec().options.find("blob");
  if (blob == spec().options.end()) throw Error("engine load", "engine openvino needs the option blob");
  std::ifstream stream(blob->second, std::ios::binary);
  if (!stream) throw Error("engine load", "cannot read the engine " + blob->second, "run `make generate_engines`");
  const auto device = spec().options.find("device");
  try {
    return core_.import_model(stream, device == spec().options.end() ? "CPU" : device->second, properties);
  } catch (const std::exception& error) {
    throw Error("engine load", "OpenVINO " + std::string(ov::get_openvino_version().buildNumber) + " cannot import " +
                                   blob->second + ": " + reason(error.what()),
                "a blob fits only the OpenVINO and the device it was built with; build it again: "
                "make generate_engines RUN_ARGS=--force");
  }
}

// Recipe and engine must agree in type and shape, or bytes would be misread without a word.
template <typename Find>
ov::Output<const ov::Node> OpenVinoEngine::checked_port(const TensorSpec& wanted, const Find& find) const {
  ov::PartialShape shape{static_cast<ov::Dimension::value_type>(spec().batch_size)};
  for (std::size_t extent : wanted.shape) shape.push_back(static_cast<ov::Dimension::value_type>(extent));
  std::string has = "has no tensor of that name";
  try {
    const ov::Output<const ov::Node> port = find(wanted.name);
    const std::string dtype = port_dtype(port.get_element_type());
    if (port.get_partial_shape() == shape && dtype == wanted.dtype) return port;
    has = "has " + dtype + " " + port.get_partial_shape().to_string();
  } catch (const ov::Exception&) {
  }
  throw Error("engine load", "the recipe wants " + wanted.name + " as " + wanted.dtype + " " + shape.to_string() +
                                 " (batch first), the engine " + has,
              "build the engine with the recipe's batch_size and tensors: run `make generate_engines`");
}

void OpenVinoEngine::do_infer(std::size_t index, const Batch& batch) {
  auto& [request, inputs, outputs] = instances_[index];
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) bind_memory(request, inputs[i], batch.inputs[i]);
  for (std::size_t i = 0; i < batch.outputs.size(); ++i) bind_memory(request, outputs[i], batch.outputs[i]);
  request.infer();
}

}  // namespace

std::unique_ptr<Engine> make_openvino_engine(EngineSpec spec) {
  return std::make_unique<OpenVinoEngine>(std::move(spec));
}

}  // namespace engineroom
