// Calls a Python callable with views of a batch and checks what comes back.
#include "python_engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <string_view>

#include "failure.h"

namespace nb = nanobind;

namespace engineroom {
namespace {

using InputView = nb::ndarray<nb::numpy, nb::ro>;
using OutputArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

nb::dlpack::dtype dlpack_dtype(std::string_view dtype) {
  using nb::dlpack::dtype_code;
  dtype_code code = dtype_code::Float;
  if (dtype == "bfloat16") code = dtype_code::Bfloat;
  if (dtype.starts_with("int")) code = dtype_code::Int;
  if (dtype.starts_with("uint")) code = dtype_code::UInt;
  if (dtype == "bool") code = dtype_code::Bool;
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(8 * dtype_bytes(dtype)), 1};
}

std::string text_of(const nb::object& object) { return nb::cast<std::string>(nb::str(nb::handle(object))); }

std::string type_text(nb::handle object) { return text_of(object.type().attr("__name__")); }

// "ValueError: text (model.py:12)": the traceback itself stays with Python.
std::string error_text(nb::python_error& error) {
  std::string text = text_of(error.type().attr("__name__"));
  const std::string message = text_of(nb::borrow(error.value()));
  if (!message.empty()) text += ": " + message;
  nb::object frame = error.traceback();
  if (!frame.is_valid() || frame.is_none()) return text;
  for (nb::object next = frame.attr("tb_next"); !next.is_none(); next = frame.attr("tb_next")) frame = next;
  const std::string file = text_of(frame.attr("tb_frame").attr("f_code").attr("co_filename"));
  return text + " (" + file + ":" + text_of(frame.attr("tb_lineno")) + ")";
}

// Keeps a worker known to Python from its first call until it ends; else every call would make and destroy a thread
// state, which costs some 15 microseconds. Threads that Python already knows need none.
class KnownToPython {
 public:
  KnownToPython() {
    if (PyGILState_GetThisThreadState() != nullptr) return;
    entered_ = PyGILState_Ensure();
    state_ = PyEval_SaveThread();
  }
  ~KnownToPython() {
    if (state_ == nullptr) return;
    PyEval_RestoreThread(state_);
    PyGILState_Release(entered_);
  }
  KnownToPython(const KnownToPython&) = delete;
  KnownToPython& operator=(const KnownToPython&) = delete;

 private:
  PyGILState_STATE entered_{};
  PyThreadState* state_ = nullptr;
};

class PythonEngine : public Engine {
 public:
  PythonEngine(EngineSpec spec, nb::object session) : Engine(std::move(spec)), session_(std::move(session)) {
    for (const TensorSpec& input : this->spec().inputs) input_dtypes_.push_back(dlpack_dtype(input.dtype));
    for (const TensorSpec& output : this->spec().outputs) output_dtypes_.push_back(dlpack_dtype(output.dtype));
  }

  ~PythonEngine() override {
    const nb::gil_scoped_acquire gil;
    session_.reset();
  }

 protected:
  void do_infer(std::size_t instance, const Batch& batch) override;

 private:
  nb::tuple views(const Batch& batch) const;
  void take_output(std::size_t index, nb::handle array, const Batch& batch) const;

  nb::object session_;
  std::vector<nb::dlpack::dtype> input_dtypes_, output_dtypes_;
};

nb::tuple PythonEngine::views(const Batch& batch) const {
  nb::list arrays;
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    std::vector<std::size_t> shape{batch.count};
    const auto& sample_shape = spec().inputs[i].shape;
    shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
    const InputView view(batch.inputs[i], shape.size(), shape.data(), nb::handle(), nullptr, input_dtypes_[i]);
    arrays.append(nb::cast(view, nb::rv_policy::reference));
  }
  return nb::tuple(arrays);
}

void PythonEngine::take_output(std::size_t index, nb::handle object, const Batch& batch) const {
  const TensorSpec& wanted = spec().outputs[index];
  const std::string expected = "output " + std::to_string(index) + " must be " + wanted.text() + " for each of " +
                               std::to_string(batch.count) + " samples";
  OutputArray array;
  if (!nb::try_cast(object, array)) {
    throw Error("engine infer", expected + ", the engine returned a " + type_text(object));
  }
  bool fits = array.dtype() == output_dtypes_[index] && array.ndim() == wanted.shape.size() + 1 &&
              array.shape(0) == batch.count;
  for (std::size_t axis = 0; fits && axis < wanted.shape.size(); ++axis) {
    fits = array.shape(axis + 1) == wanted.shape[axis];
  }
  if (!fits) {
    throw Error("engine infer", expected + ", the engine returned " + text_of(object.attr("dtype")) +
                                    " of shape " + text_of(object.attr("shape")));
  }
  std::memcpy(batch.outputs[index], array.data(), batch.count * wanted.sample_bytes());
}

void PythonEngine::do_infer(std::size_t, const Batch& batch) {
  thread_local const KnownToPython known;
  const nb::gil_scoped_acquire gil;
  try {
    const nb::object outputs = session_(views(batch));
    if (!nb::isinstance<nb::sequence>(outputs) || nb::len(outputs) != batch.outputs.size()) {
      const std::string got = nb::isinstance<nb::sequence>(outputs) ? std::to_string(nb::len(outputs)) + " of them"
                                                                     : "a " + type_text(outputs);
      throw Error("engine infer", "the engine must return a sequence of " + std::to_string(batch.outputs.size()) +
                                      " arrays, it returned " + got);
    }
    for (std::size_t i = 0; i < batch.outputs.size(); ++i) take_output(i, outputs[i], batch);
  } catch (nb::python_error& error) {
    throw Error("engine infer", error_text(error));
  }
}

}  // namespace

std::unique_ptr<Engine> make_python_engine(EngineSpec spec, nb::object session) {
  return std::make_unique<PythonEngine>(std::move(spec), std::move(session));
}

}  // namespace engineroom
