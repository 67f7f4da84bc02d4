#include "trace/trace-accel_switch.h"
