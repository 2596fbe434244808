// fixed_delay: every batch takes the same time, given by the option delay_us. Measures queues and workers.
#include <array>
#include <chrono>
#include <thread>

#include "engines.h"

namespace engineroom {
namespace {

using Clock = std::chrono::steady_clock;

// A sleeping thread comes back late by the timer's slack and a wake-up, some 50 microseconds: so long it stays awake.
constexpr auto kAwake = std::chrono::microseconds(60);

class FixedDelayEngine : public Engine {
 public:
  using Engine::Engine;

 protected:
  void do_load() override {
    refuse_options_except(std::array<std::string_view, 1>{"delay_us"});
    delay_ = std::chrono::nanoseconds(static_cast<std::int64_t>(number_option("delay_us", 0) * 1000));
  }

  void do_infer(std::size_t, const Batch&) override {
    const auto until = Clock::now() + delay_;
    if (delay_ > kAwake) std::this_thread::sleep_until(until - kAwake);
    while (Clock::now() < until) {
    }
  }

 private:
  std::chrono::nanoseconds delay_{};
};

}  // namespace

std::unique_ptr<Engine> make_fixed_delay_engine(EngineSpec spec) {
  return std::make_unique<FixedDelayEngine>(std::move(spec));
}

}  // namespace engineroom
