"""x"""
def test_m(matrix):
    import time
    t=time.time(); m=matrix("fp32"); print(m.done.text, time.time()-t)
    t=time.time(); m=matrix("int8"); print(m.done.text, time.time()-t)
