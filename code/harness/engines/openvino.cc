// openvino: runs a blob that OpenVINO has compiled and exported, one inference request per instance.
//
// Options: `blob` (path), `device` (CPU where not given); every other option is an OpenVINO property. An exported blob
// forgets its streams, precision and hint, so they are handed over again at import.
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

void bind_memory(ov::InferRequest& request, const ov::Output<const ov::Node>& port, std::byte* memory) {
  request.set_tensor(port, ov::Tensor(port.get_element_type(), port.get_shape(), memory));
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
  // One request, its tensors and the memory they point to now: binding again costs, so it is done only for new memory.
  struct alignas(64) Instance {
    ov::InferRequest request;
    std::vector<const std::byte*> inputs;
    std::vector<std::byte*> outputs;
  };

  void import_blob();
  template <typename Find>
  ov::Output<const ov::Node> checked_port(const TensorSpec& wanted, const Find& find) const;

  ov::Core core_;
  ov::CompiledModel model_;
  std::vector<ov::Output<const ov::Node>> inputs_, outputs_;  // in the recipe's order
  std::vector<Instance> instances_;
};

void OpenVinoEngine::do_load() {
  import_blob();
  for (const TensorSpec& input : spec().inputs) {
    inputs_.push_back(checked_port(input, [this](const std::string& name) { return model_.input(name); }));
  }
  for (const TensorSpec& output : spec().outputs) {
    outputs_.push_back(checked_port(output, [this](const std::string& name) { return model_.output(name); }));
  }
  for (std::size_t i = 0; i < spec().instances; ++i) {
    instances_.push_back({model_.create_infer_request(), std::vector<const std::byte*>(spec().inputs.size()),
                          std::vector<std::byte*>(spec().outputs.size())});
  }
}

void OpenVinoEngine::import_blob() {
  ov::AnyMap properties(spec().options.begin(), spec().options.end());
  properties.erase("blob");
  properties.erase("device");
  const auto blob = spec().options.find("blob");
  if (blob == spec().options.end()) throw Error("engine load", "engine openvino needs the option blob");
  std::ifstream stream(blob->second, std::ios::binary);
  if (!stream) throw Error("engine load", "cannot read the engine " + blob->second, "run `make generate_engines`");
  const auto device = spec().options.find("device");
  try {
    model_ = core_.import_model(stream, device == spec().options.end() ? "CPU" : device->second, properties);
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
  Instance& instance = instances_[index];
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    if (std::exchange(instance.inputs[i], batch.inputs[i]) == batch.inputs[i]) continue;
    // OpenVINO has no tensor of constant memory; it does not write to inputs.
    bind_memory(instance.request, inputs_[i], const_cast<std::byte*>(batch.inputs[i]));
  }
  for (std::size_t i = 0; i < batch.outputs.size(); ++i) {
    if (std::exchange(instance.outputs[i], batch.outputs[i]) == batch.outputs[i]) continue;
    bind_memory(instance.request, outputs_[i], batch.outputs[i]);
  }
  instance.request.infer();
}

}  // namespace

std::unique_ptr<Engine> make_openvino_engine(EngineSpec spec) {
  return std::make_unique<OpenVinoEngine>(std::move(spec));
}

}  // namespace engineroom
