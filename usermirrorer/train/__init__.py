import logging


# accelerate and PEFT import it where it is installed, and on a CPU it then says what it lacks, whatever is trained.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
