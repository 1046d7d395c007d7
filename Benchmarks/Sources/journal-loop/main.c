// The least that any reader of the journal does: touches every byte of every field of every entry of the files in
// a directory. Prints the number of entries and the sum of the bytes.
#include <inttypes.h>
#include <stdio.h>
#include <systemd/sd-journal.h>

int main(int count, char **arguments) {
  sd_journal *journal;
  if (count != 2 || sd_journal_open_directory(&journal, arguments[1], 0) < 0) return 1;
  sd_journal_set_data_threshold(journal, 0);
  uint64_t entries = 0, sum = 0;
  while (sd_journal_next(journal) > 0) {
    const void *data;
    size_t length;
    entries++;
    SD_JOURNAL_FOREACH_DATA(journal, data, length) {
      for (size_t index = 0; index < length; index++) sum += ((const unsigned char *)data)[index];
    }
  }
  printf("%" PRIu64 " %" PRIu64 "\n", entries, sum);
  sd_journal_close(journal);
}
