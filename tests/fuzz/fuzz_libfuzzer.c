/* The end of a target that libFuzzer drives. */
#include "fuzz.h"

#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ge_message_capture(1); /* messages are formatted, not printed */
    fuzz_once(data, size);
    return 0;
}
