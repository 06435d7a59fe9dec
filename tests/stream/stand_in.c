/* What torch asks the CUDA runtime about the current device, answered for a card that is not here. */
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaSetDevice(int device) { return 0; }
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetLastError(void) { return 0; }
int cudaPeekAtLastError(void) { return 0; }
/* c10::cuda's MaybeSetDevice, SetDevice, GetDevice, ExchangeDevice and MaybeExchangeDevice. */
int _ZN3c104cuda14MaybeSetDeviceEa(signed char device) { return 0; }
int _ZN3c104cuda9SetDeviceEa(signed char device) { return 0; }
int _ZN3c104cuda9SetDeviceEab(signed char device, int force) { return 0; }
int _ZN3c104cuda9GetDeviceEPa(signed char *device) { *device = 0; return 0; }
signed char _ZN3c104cuda14ExchangeDeviceEa(signed char device) { return 0; }
signed char _ZN3c104cuda19MaybeExchangeDeviceEa(signed char device) { return 0; }
