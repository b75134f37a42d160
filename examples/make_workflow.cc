// Prints a workflow in taskwal's own format: TASKS tasks, in stages of up to 50 that run side by
// side and a checkpoint that waits for them. Each task sleeps MILLISECONDS on average.
//
//   make_workflow [TASKS [MILLISECONDS]] > workflow.json      (1000 tasks, 10 ms)
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

constexpr long kTasksMax = 1'000'000;
constexpr long kMillisecondsMax = 1'000'000;
constexpr long kStageTasks = 50;

// The whole text as a number of 0 to `max`; -1 for anything else.
long ParseNumber(const char* text, long max) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return *text != '\0' && *end == '\0' && value >= 0 && value <= max ? value : -1;
}

std::string Dependencies(const std::string& id) {
  return id.empty() ? "" : ", \"depends_on\": [\"" + id + "\"]";
}

// Between half and one and a half of the average, always the same for the same task.
void PrintSleep(long number, const std::string& after, long average_ms) {
  const double share = 0.5 + static_cast<double>(number * 37 % 101) / 100;
  std::printf("  {\"id\": \"work-%06ld\", \"kind\": \"sleep\", \"seconds\": %.6f%s}", number,
              share * static_cast<double>(average_ms) / 1000, Dependencies(after).c_str());
}

void PrintCheckpoint(const std::string& id, long first, long last) {
  std::printf("  {\"id\": \"%s\", \"kind\": \"noop\", \"depends_on\": [", id.c_str());
  for (long i = first; i < last; ++i) {
    std::printf("%s\"work-%06ld\"", i == first ? "" : ", ", i);
  }
  std::printf("]}");
}

void PrintWorkflow(long tasks, long average_ms) {
  std::printf("{\"name\": \"generated\", \"tasks\": [\n");
  std::string checkpoint;
  long stage_begin = 0;
  for (long i = 0; i < tasks; ++i) {
    if (i > 0) std::printf(",\n");
    const bool is_checkpoint = i + 1 == tasks || i - stage_begin == kStageTasks;
    if (is_checkpoint && i > stage_begin) {
      checkpoint = "stage-" + std::to_string(i);
      PrintCheckpoint(checkpoint, stage_begin, i);
      stage_begin = i + 1;
    } else {
      PrintSleep(i, checkpoint, average_ms);
    }
  }
  std::printf("\n]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const long tasks = argc > 1 ? ParseNumber(argv[1], kTasksMax) : 1000;
  const long average_ms = argc > 2 ? ParseNumber(argv[2], kMillisecondsMax) : 10;
  if (argc > 3 || tasks < 0 || average_ms < 0) {
    std::fprintf(stderr, "usage: make_workflow [TASKS [MILLISECONDS]]\n");
    return 64;
  }
  PrintWorkflow(tasks, average_ms);
  return std::fflush(stdout) == 0 ? 0 : 1;
}
