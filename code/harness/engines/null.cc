// null: answers at once, with whatever is in the output memory (zeros). Measures the harness itself.
#include "engines.h"

namespace engineroom {
namespace {

class NullEngine : public Engine {
 public:
  using Engine::Engine;

 protected:
  void do_load() override { refuse_options_except({}); }
  void do_infer(std::size_t, const Batch&) override {}
};

}  // namespace

std::unique_ptr<Engine> make_null_engine(EngineSpec spec) { return std::make_unique<NullEngine>(std::move(spec)); }

}  // namespace engineroom
